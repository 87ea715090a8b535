"""As much of protocol buffers as an ONNX file needs; the package onnx is not required for it."""

import numpy as np

# TensorProto.DataType
_TYPES = {'float32': 1, 'uint8': 2, 'int32': 6, 'int64': 7, 'float16': 10}


def varint(value):
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def number(field, value):
    return varint(field << 3) + varint(value)


def message(field, *parts):
    content = b''.join(part.encode() if isinstance(part, str) else part for part in parts)
    return varint(field << 3 | 2) + varint(len(content)) + content


def value_info(field, name, shape, dtype='float32'):
    dimensions = [
        message(1, message(2, side) if isinstance(side, str) else number(1, side))
        for side in shape]
    return message(field, message(1, name), message(2, message(
        1, number(1, _TYPES[dtype]), message(2, *dimensions))))


def constant(index, array):
    """Make an output that is an array, whatever the input."""
    return [
        message(1, message(1, f'value{index}'), message(2, f'output{index}'),
                message(4, 'Identity')),
        message(5, *(number(1, side) for side in array.shape), number(2, _TYPES[str(array.dtype)]),
                message(8, f'value{index}'), message(9, array.tobytes())),
        value_info(12, f'output{index}', [f'{index}_{axis}' for axis in range(array.ndim)],
                   str(array.dtype))]


def write_onnx(path, outputs, inputs=((1, 3, 'h', 'w'),), **metadata):
    """Write a network whose outputs are constants, or its input where one is ``...``."""
    graph = []
    for index, array in enumerate(outputs):
        graph += [
            message(1, message(1, 'images0'), message(2, f'output{index}'),
                    message(4, 'Identity')),
            value_info(12, f'output{index}', ['n', 'c', 'y', 'x']),
        ] if array is ... else constant(index, np.ascontiguousarray(array))
    graph += [value_info(11, f'images{i}', shape) for i, shape in enumerate(inputs)]
    said = [message(14, message(1, key), message(2, str(value)))
            for key, value in metadata.items()]
    path.write_bytes(b''.join((
        number(1, 8), message(7, message(2, 'test'), *graph),
        message(8, number(2, 13)), *said)))
    return str(path)
