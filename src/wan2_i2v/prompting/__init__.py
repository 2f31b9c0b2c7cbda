"""Prompt help: composing prompts from parts (`compose`) and finding what is wrong with them (`lint`).

A leaf: imports `presets`, `errors` and pydantic; no torch and no tokenizer, which comes in as a callable.
"""
