"""The solvers of :data:`widegram.validation.choices.SOLVERS`, a module each."""
