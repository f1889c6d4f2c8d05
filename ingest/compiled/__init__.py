"""Code that is compiled where a C compiler is at hand when the package is built; all works without it, slower."""
