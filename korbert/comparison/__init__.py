"""What a tokenizer does to Korean text and to KorQuAD, measured so that vocabularies can be compared."""
