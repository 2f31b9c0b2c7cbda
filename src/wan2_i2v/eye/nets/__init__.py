"""The face nets of `eye.faces`, as package data: see NOTICE and LICENSE in this folder."""
