"""The sections of `ebatch reproduce`, one module each; they are found through the entry points ``ebatch_env.reproductions``."""
