"""Who does a teacher's work: this process, or actors on a Ray cluster; no ROS."""
