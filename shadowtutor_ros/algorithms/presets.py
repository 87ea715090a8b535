"""Settings for other links and teachers than those that the defaults are for."""

from typing import Any

#: What differs from the defaults, by the names of the nodes' parameters; docs/evaluation.md has
#: what each gave where it was measured. The defaults are for some 215 kbit/s.
PRESETS: dict[str, dict[str, Any]] = {
    # A radio that is shared, or paid for.
    'thin': {
        # Half of WebP's bytes; both ends need PyAV.
        'key_frame.format': 'auto',
        'stride_rate': 9.0,
    },
    # A good link, and a teacher with a GPU, whose steps cost next to nothing.
    'rich': {
        'stride_rate': 25.0,
        'still_stride': 2048,
        'scope': 'full',
        'max_updates': 30,
        'training_seconds': 2.0,
        'replay': 2,
        'share': 0.1,
    },
}
