"""The command `keras-nas`: one file per subcommand, none of which imports Keras for `--help`."""
