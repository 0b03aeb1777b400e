"""Search-QA: questions, passages, retrievers, episodes of searching and answering."""
