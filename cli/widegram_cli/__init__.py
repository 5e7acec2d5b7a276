"""The ``widegram`` command: a thin layer of options, messages and progress over the library."""
