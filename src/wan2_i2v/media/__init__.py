"""Reading and writing clips. Leaves without torch; numpy, Pillow, OpenCV and PyAV only."""
