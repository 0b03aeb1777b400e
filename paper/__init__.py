"""Result files in, tables, figures and a PDF out. Never imports torch."""
