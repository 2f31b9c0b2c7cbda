"""The eye: look at a picture before the work and at a clip after it, offline, on a CPU.

A leaf package on NumPy, OpenCV and Pillow (`files` also opens clips through `media`); no torch. Doors and stages call
`picture.analyze`, `clip.examine` and `files.verify_file`; nothing here raises for what a picture or a clip shows.
"""
