"""What the documentation takes from the code: pages are completed when Sphinx reads them."""
