"""
Tiny checkpoints of transformers, with random weights, saved as anybody saves theirs.

Sizes are the smallest that the networks can be built with.
"""

import json

import torch

NAMES = {0: 'wall', 1: 'Dog', 2: 'person', 3: 'sky'}

# Grounding DINO has the numbers of these tokens built in.
BERT = {0: '[PAD]', 100: '[UNK]', 101: '[CLS]', 102: '[SEP]', 1012: '.', 1029: '?'}
BERT_WORDS = ('dog', 'person', 'a', 'traffic', 'light', 'cat', '##s')

_LETTERS = [chr(code) for code in range(ord('a'), ord('z') + 1)]
CLIP = [*_LETTERS, *(f'{letter}</w>' for letter in _LETTERS), '<|startoftext|>', '<|endoftext|>']

_TRANSFORMER = {'hidden_size': 16, 'intermediate_size': 16, 'num_hidden_layers': 1,
                'num_attention_heads': 2}
_SAM_PARTS = {
    'prompt_encoder_config': {
        'hidden_size': 16, 'image_size': 64, 'patch_size': 16, 'mask_input_channels': 4},
    'mask_decoder_config': {
        'hidden_size': 16, 'mlp_dim': 16, 'num_hidden_layers': 1, 'num_attention_heads': 2,
        'iou_head_hidden_dim': 16}}


def _save(folder, make, *others):
    torch.manual_seed(0)
    make().save_pretrained(folder)
    for other in others:
        other.save_pretrained(folder)
    return str(folder)


def _bert(transformers, folder):
    vocabulary = [BERT.get(number, f'[unused{number}]') for number in range(1030)]
    folder.mkdir(parents=True)
    (folder / 'vocab.txt').write_text('\n'.join([*vocabulary, *BERT_WORDS]) + '\n')
    (folder / 'tokenizer_config.json').write_text(json.dumps(
        {'tokenizer_class': 'BertTokenizer', 'do_lower_case': True}))
    return transformers.BertTokenizerFast.from_pretrained(folder)


def _clip(transformers, folder, length=16):
    folder.mkdir(parents=True)
    (folder / 'vocab.json').write_text(json.dumps({token: i for i, token in enumerate(CLIP)}))
    (folder / 'merges.txt').write_text('#version: 0.2\n')
    (folder / 'tokenizer_config.json').write_text(json.dumps(
        {'tokenizer_class': 'CLIPTokenizer', 'model_max_length': length}))
    return transformers.CLIPTokenizerFast.from_pretrained(folder)


def _clip_text(length=16):
    return {**_TRANSFORMER, 'vocab_size': len(CLIP), 'max_position_embeddings': length,
            'bos_token_id': len(CLIP) - 2, 'eos_token_id': len(CLIP) - 1}


def _swin(transformers, *stages):
    return transformers.SwinConfig(
        image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2,
        out_features=[f'stage{stage}' for stage in stages])


def segformer(transformers, folder):
    config = transformers.SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=16,
        id2label=NAMES)
    return _save(folder, lambda: transformers.SegformerForSemanticSegmentation(config),
                 transformers.SegformerImageProcessor(size={'height': 64, 'width': 64}))


def mask2former(transformers, folder):
    config = transformers.Mask2FormerConfig(
        backbone_config=_swin(transformers, 1, 2, 3, 4), feature_size=32, mask_feature_size=32,
        hidden_dim=32, encoder_feedforward_dim=16, encoder_layers=1, decoder_layers=2,
        num_attention_heads=2, dim_feedforward=16, num_queries=1, id2label=NAMES)
    return _save(folder, lambda: transformers.Mask2FormerForUniversalSegmentation(config),
                 transformers.Mask2FormerImageProcessor(size={'height': 64, 'width': 64}))


def maskformer(transformers, folder):
    decoder = transformers.DetrConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=1,
        use_timm_backbone=False, backbone_config=None)
    config = transformers.MaskFormerConfig(
        backbone_config=_swin(transformers, 1, 2, 3, 4), fpn_feature_size=32,
        mask_feature_size=32, decoder_config=decoder, id2label=NAMES)
    return _save(folder, lambda: transformers.MaskFormerForInstanceSegmentation(config),
                 transformers.MaskFormerImageProcessor(size={'height': 64, 'width': 64}))


def oneformer(transformers, folder):
    config = transformers.OneFormerConfig(
        backbone_config=_swin(transformers, 1, 2, 3, 4), num_queries=1, conv_dim=32, mask_dim=32,
        hidden_dim=32, encoder_feedforward_dim=16, encoder_layers=1, decoder_layers=2,
        dim_feedforward=16, num_attention_heads=2, text_encoder_width=16,
        text_encoder_num_layers=1, text_encoder_vocab_size=len(CLIP), task_seq_len=77,
        text_encoder_context_length=77, id2label=NAMES, is_training=False)
    folder.mkdir(parents=True)
    (folder / 'metadata.json').write_text(json.dumps({
        str(number): {'name': name, 'isthing': int(number in (1, 2))}
        for number, name in NAMES.items()}))
    images = transformers.OneFormerImageProcessor(
        size={'height': 64, 'width': 64}, class_info_file='metadata.json',
        repo_path=str(folder), num_text=2, num_labels=len(NAMES))
    return _save(
        folder, lambda: transformers.OneFormerForUniversalSegmentation(config),
        transformers.OneFormerProcessor(images, _clip(transformers, folder / 'tokens', 77)))


def detr(transformers, folder, segments=True):
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1] * 4,
        out_features=['stage1', 'stage2', 'stage3', 'stage4'])
    config = transformers.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        backbone_config=backbone, d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=8, decoder_attention_heads=8, encoder_ffn_dim=16,
        decoder_ffn_dim=16, num_queries=1, id2label=NAMES)
    kind = transformers.DetrForSegmentation if segments else transformers.DetrForObjectDetection
    return _save(folder, lambda: kind(config), transformers.DetrImageProcessor(
        size={'shortest_edge': 64, 'longest_edge': 96}))


def grounding_dino(transformers, folder):
    tokenizer = _bert(transformers, folder / 'tokens')
    text = transformers.BertConfig(vocab_size=len(tokenizer), **_TRANSFORMER)
    config = transformers.GroundingDinoConfig(
        backbone_config=_swin(transformers, 2, 3, 4), text_config=text, num_queries=6, d_model=32,
        encoder_layers=1, encoder_ffn_dim=16, encoder_attention_heads=2, decoder_layers=2,
        decoder_ffn_dim=16, decoder_attention_heads=2, num_feature_levels=4, encoder_n_points=2,
        decoder_n_points=2)
    images = transformers.GroundingDinoImageProcessor(
        size={'shortest_edge': 64, 'longest_edge': 96})
    return _save(folder, lambda: transformers.GroundingDinoForObjectDetection(config),
                 transformers.GroundingDinoProcessor(images, tokenizer))


def owlv2(transformers, folder):
    config = transformers.Owlv2Config(
        text_config=_clip_text(), projection_dim=16,
        vision_config={**_TRANSFORMER, 'image_size': 64, 'patch_size': 16})
    return _save(folder, lambda: transformers.Owlv2ForObjectDetection(config),
                 transformers.Owlv2Processor(
                     transformers.Owlv2ImageProcessor(size={'height': 64, 'width': 64}),
                     _clip(transformers, folder / 'tokens')))


def sam(transformers, folder):
    config = transformers.SamConfig(**_SAM_PARTS, vision_config={
        'hidden_size': 16, 'output_channels': 16, 'num_hidden_layers': 1, 'mlp_dim': 16,
        'num_attention_heads': 2, 'image_size': 64, 'patch_size': 16, 'window_size': 2,
        'global_attn_indexes': [0], 'num_pos_feats': 8})
    return _save(folder, lambda: transformers.SamModel(config), transformers.SamProcessor(
        transformers.SamImageProcessor(
            size={'longest_edge': 64}, pad_size={'height': 64, 'width': 64},
            mask_size={'longest_edge': 16}, mask_pad_size={'height': 16, 'width': 16})))


def sam2(transformers, folder):
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[64, 64], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1] * 4,
        window_size_per_stage=[4, 4, 4, 2], global_attention_blocks=[3],
        window_positional_embedding_background_size=[2, 2])
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]], fpn_hidden_size=16)
    config = transformers.Sam2Config(vision_config=vision, **_SAM_PARTS)
    images = getattr(transformers, 'Sam2ImageProcessor', None) or (
        transformers.Sam2ImageProcessorFast)  # its name before transformers 5
    return _save(folder, lambda: transformers.Sam2Model(config), transformers.Sam2Processor(
        images(size={'height': 64, 'width': 64}, mask_size={'height': 16, 'width': 16}),
        target_size=64))


def sam2_video(transformers, folder):
    """Return a SAM 2 as it is published: its configuration is that of the model for videos."""
    sam2(transformers, folder)
    config = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps(
        {**config, 'model_type': 'sam2_video', 'architectures': ['Sam2VideoModel']}))
    return str(folder)


def clipseg(transformers, folder):
    config = transformers.CLIPSegConfig(
        text_config=_clip_text(), projection_dim=16, extract_layers=[0, 1, 2], reduce_dim=16,
        decoder_num_attention_heads=2, decoder_intermediate_size=16,
        vision_config={**_TRANSFORMER, 'num_hidden_layers': 3, 'image_size': 64, 'patch_size': 16})
    return _save(folder, lambda: transformers.CLIPSegForImageSegmentation(config),
                 transformers.CLIPSegProcessor(
                     transformers.ViTImageProcessor(size={'height': 64, 'width': 64}),
                     _clip(transformers, folder / 'tokens')))


def sam3(transformers, folder):
    vision = {
        'backbone_config': {
            'model_type': 'sam3_vit_model', 'hidden_size': 16, 'intermediate_size': 16,
            'num_hidden_layers': 2, 'num_attention_heads': 2, 'image_size': 56, 'patch_size': 14,
            'window_size': 2, 'global_attn_indexes': [1], 'pretrain_image_size': 28},
        'fpn_hidden_size': 32, 'backbone_feature_sizes': [[16, 16], [8, 8], [4, 4]]}
    part = {'hidden_size': 32, 'num_layers': 1, 'num_attention_heads': 2, 'intermediate_size': 16}
    config = transformers.Sam3Config(
        vision_config=vision, text_config={**_clip_text(32), 'projection_dim': 16},
        geometry_encoder_config=part, detr_encoder_config=part,
        detr_decoder_config={**part, 'num_queries': 5},
        mask_decoder_config={'hidden_size': 32, 'num_attention_heads': 2})
    return _save(folder, lambda: transformers.Sam3Model(config), transformers.Sam3Processor(
        transformers.Sam3ImageProcessor(size={'height': 56, 'width': 56}),
        _clip(transformers, folder / 'tokens', 32)))


def bert(transformers, folder):
    """Return what segments nothing."""
    config = transformers.BertConfig(vocab_size=10, **_TRANSFORMER)
    return _save(folder, lambda: transformers.BertModel(config))
