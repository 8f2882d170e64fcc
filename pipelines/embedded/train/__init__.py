"""How the embedded model was made: data, training and score, one noun a file."""
