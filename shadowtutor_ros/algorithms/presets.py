"""Settings for other links and teachers than those that the defaults are for."""

from typing import Any

#: What differs from the defaults, by the names of the nodes' parameters; docs/evaluation.md has
#: what each gives. The defaults are for some 250 kbit/s.
PRESETS: dict[str, dict[str, Any]] = {
    # Some 120 kbit/s: a radio that is shared, or paid for.
    'thin': {
        'stride_rate': 3.5,
        'key_frame.quality': 30,
    },
    # A good link, and a teacher with a GPU.
    'rich': {
        'stride_rate': 10.0,
        'scope': 'full',
        'max_updates': 30,
    },
}
