"""What the readers of several formats share: folders of files, strict numbers and JSON, word ids,
and which labels are words."""
