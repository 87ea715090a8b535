"""What crosses the network, as bytes and data classes: no ROS."""
