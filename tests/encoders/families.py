"""Small models of other people, of many families, with a tokenizer of one token a word."""

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def make_tokenizer(folder, *, words=("w{}",), decoder=False):
    vocabulary = [*SPECIAL, *(words[0].format(number) for number in range(60))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    if decoder:
        names = {"unk_token": "[UNK]", "eos_token": "[SEP]"}
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=30, **names)
    made.save_pretrained(folder)
    return made


@torch.no_grad()
def with_large_weights(model):
    """Differences between examples are then far above rounding."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.2)
    return model


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = SMALL | {"vocab_size": 80, "max_position_embeddings": 40}
PICTURE = SMALL | {"image_size": 32, "patch_size": 8}
BART = {"d_model": 32, "vocab_size": 80, "max_position_embeddings": 40, "encoder_layers": 2, "decoder_layers": 1}
BART |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
TEXTS = {
    "albert": lambda: transformers.AlbertForMaskedLM(transformers.AlbertConfig(**TEXT, embedding_size=16)),
    "bart": lambda: transformers.BartForConditionalGeneration(transformers.BartConfig(**BART)),
    "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**TEXT)),
    "convbert": lambda: transformers.ConvBertForMaskedLM(transformers.ConvBertConfig(**TEXT, embedding_size=32)),
    "deberta-v2": lambda: transformers.DebertaV2ForMaskedLM(transformers.DebertaV2Config(**TEXT)),
    "distilbert": lambda: transformers.DistilBertForMaskedLM(
        transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, vocab_size=80)
    ),
    "electra": lambda: transformers.ElectraForPreTraining(transformers.ElectraConfig(**TEXT, embedding_size=16)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=80, n_positions=40)
    ),
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT)),
    "marian": lambda: transformers.MarianMTModel(  # whose sinusoids are not saved
        transformers.MarianConfig(**BART, pad_token_id=0, decoder_start_token_id=0, eos_token_id=3, bos_token_id=2)
    ),
    "modernbert": lambda: transformers.ModernBertForMaskedLM(
        transformers.ModernBertConfig(**TEXT, pad_token_id=0, cls_token_id=2, sep_token_id=3)
    ),
    "mpnet": lambda: transformers.MPNetForMaskedLM(transformers.MPNetConfig(**TEXT)),
    "roberta": lambda: transformers.RobertaForMaskedLM(transformers.RobertaConfig(**TEXT)),
    "t5": lambda: transformers.T5ForConditionalGeneration(
        transformers.T5Config(d_model=32, d_ff=64, d_kv=16, num_layers=2, num_heads=2, vocab_size=80)
    ),
    "t5 encoder": lambda: transformers.T5EncoderModel(
        transformers.T5Config(d_model=32, d_ff=64, d_kv=16, num_layers=2, num_heads=2, vocab_size=80)
    ),
    "xlnet": lambda: transformers.XLNetLMHeadModel(
        transformers.XLNetConfig(d_model=32, n_layer=2, n_head=2, d_inner=64, vocab_size=80)
    ),
}
CLIP = {"text_config": TEXT | {"bos_token_id": 2, "eos_token_id": 3}, "vision_config": PICTURE, "projection_dim": 16}
PICTURES = {
    "clip": lambda: transformers.CLIPModel(transformers.CLIPConfig(**CLIP)),
    "convnext": lambda: transformers.ConvNextForImageClassification(
        transformers.ConvNextConfig(hidden_sizes=[8, 8, 16, 32], depths=[1] * 4)
    ),
    "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**PICTURE)),
    "resnet": lambda: transformers.ResNetForImageClassification(
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 32], depths=[1] * 4, layer_type="basic")
    ),
    "siglip": lambda: transformers.SiglipModel(
        transformers.SiglipConfig(text_config=TEXT | {"pad_token_id": 0}, vision_config=PICTURE)
    ),
    "swin": lambda: transformers.SwinForImageClassification(
        transformers.SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[2, 2], image_size=32, window_size=4)
    ),
    "vit": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**PICTURE)),
    "vit_mae": lambda: transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(
            **PICTURE, decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
            decoder_intermediate_size=32,
        )
    ),
}  # fmt: skip
