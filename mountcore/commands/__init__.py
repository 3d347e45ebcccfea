"""The subcommands, one module each: ``run(argv)`` parses its own arguments and answers the exit code."""
