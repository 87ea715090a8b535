"""ROS 2 nodes: thin adapters around the engine."""
