"""What the graph of ROS calls nodes and messages."""

from rclpy.topic_endpoint_info import TopicEndpointInfo


def type_name(kind: type) -> str:
    """Return the name of a kind of message, such as 'sensor_msgs/msg/Image'."""
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"


def node_name(endpoint: TopicEndpointInfo) -> str:
    """Return the full name of an endpoint's node; '' where it is not known."""
    # rmw has such words for nodes that are not, or not yet, discovered.
    if not endpoint.node_name or 'NAME_UNKNOWN_' in endpoint.node_name:
        return ''
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def by_node(endpoints: list[TopicEndpointInfo]) -> dict[str, set[tuple[int, ...]]]:
    """Return the ids of endpoints by their node's full name; '' stands for one not known."""
    nodes: dict[str, set[tuple[int, ...]]] = {}
    for endpoint in endpoints:
        nodes.setdefault(node_name(endpoint), set()).add(tuple(endpoint.endpoint_gid))
    return nodes
