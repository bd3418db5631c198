"""What a trial came to: its results and the data it was judged on."""
