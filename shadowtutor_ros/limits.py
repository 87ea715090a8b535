"""What holds for every image on its way, from the camera to the mask."""

#: Height and width of an image at least, in pixels: of a smaller one the student's innermost
#: feature map is a single pixel, which has no statistics to be normalised by.
MIN_SIDE = 33
