"""The algorithms of the paper, each under its own name: no ROS, no files, no sockets, no clock."""
