"""Prompt help: composing prompts from parts (`compose`), finding what is wrong with them (`lint`), having them written out by a
language model (`enhance`). All leaves: no torch; a tokenizer comes in as a callable.
"""
