"""Whether credit says what actions caused: step advantages from fresh continuations, and what is compared with them."""
