"""The command line: a file a verb group, thin: parse, call one function of the library, print."""
