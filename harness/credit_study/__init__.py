"""`stepcredit credit-study`: every method's credit under every arm, held against what each step was truly worth."""
