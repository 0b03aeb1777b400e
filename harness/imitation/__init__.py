"""The warm start of a pretrained model: it imitates experts in the very episodes that training will play."""
