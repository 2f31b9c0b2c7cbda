"""Weights in whatever form users have them: `open_component(path, part)` → config and a lazy `WeightSource`.

Imported by `models.components`, the residency runtime and LoRA reading. Import from the submodules: `identify` and
`headers` need no torch; `opening`, `source`, `packed` and `tokenizer` do.
"""
