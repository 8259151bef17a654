#!/usr/bin/env bash
# A hand-written decode loop with a cache of its own for each document, over one GLM-OCR model.
# A good guess: what the model gives depends on its inputs and the cache, so a text alone gives the same after a picture.
# Seen: the model object keeps the position offset of the last picture (rope_deltas) and adds it to every later step
# that brings a filled cache. generate() sets it anew, a loop does not.
. "$(dirname "$0")/common.sh"
python_with torch==2.13.0 transformers==5.24.0 numpy==2.4.6
python_runs <<'EOF'
import torch
from finding import as_described, versions
from transformers import DynamicCache, GlmOcrConfig, GlmOcrForConditionalGeneration, logging

versions("torch", "transformers")
logging.set_verbosity_error()
torch.set_num_threads(1)
torch.manual_seed(0)
PICTURE = 100
sections = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2], "partial_rotary_factor": 1.0}
text = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": sections}
vision = {"depth": 1, "hidden_size": 32, "num_heads": 4, "out_hidden_size": 32, "intermediate_size": 32}
special = {"video_token_id": 101, "image_start_token_id": 102, "image_end_token_id": 103,
           "video_start_token_id": 104, "video_end_token_id": 105}
model = GlmOcrForConditionalGeneration(
    GlmOcrConfig(text_config=text, vision_config=vision, image_token_id=PICTURE, **special)
).eval()
with torch.no_grad():
    for weight in model.parameters():
        weight.mul_(8 if weight.dim() > 1 else 1)  # random weights that prefer something


@torch.no_grad()
def step_on(ids, cache):
    return model(input_ids=ids, past_key_values=cache, use_cache=True).logits[:, -1]


def second_step():
    cache = DynamicCache(config=model.config.get_text_config())
    step_on(torch.tensor([[5, 6, 7, 8]]), cache)
    return step_on(torch.tensor([[9]]), cache)


fresh = second_step()
as_described("twice the same text", torch.equal(fresh, second_step()), True)
height, width = 4, 16  # patches; four make a token
ids = torch.tensor([[5, 102, *[PICTURE] * (height * width // 4), 103, 6]])
with torch.no_grad():
    model(input_ids=ids, pixel_values=torch.randn(height * width, 3 * 2 * 14 * 14),
          image_grid_thw=torch.tensor([[1, height, width]]), mm_token_type_ids=(ids == PICTURE).int())
as_described("the model keeps", model.model.rope_deltas.tolist(), [[-8]])
as_described("the same text after a picture", torch.allclose(fresh, second_step(), atol=1e-3), False)
model.model.rope_deltas = None
as_described("and with the offset cleared", torch.equal(fresh, second_step()), True)
EOF
