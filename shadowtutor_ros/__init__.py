"""ShadowTutor (ICPP 2020) for ROS 2: distributed partial distillation of segmentation networks."""

from pkgutil import extend_path

__version__ = '0.1.0'

# The generated shadowtutor_ros.msg lives in the install space. In a checkout the source folder
# hides it; extending the path lets both be found.
__path__ = extend_path(__path__, __name__)
