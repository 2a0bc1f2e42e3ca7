// Package checkpoints is a family of tiny checkpoints in the shapes that people publish: the fields
// of RoPE in config.json as published, real widths of heads, random weights.
//
// A row of Families is a shape. To add one, add a line: the name, the spelling (the version of
// transformers whose field names it has), the layout of its weights (layouts.go), the fields of
// config.json, and what transformers makes of them, worked out by hand: rotated dimensions, base,
// length and scaling. Test then takes it from folder to folder, from folder to GGUF, from GGUF back
// by strip; with Python and transformers (PYTHON names the interpreter, PYTHON4 one with
// transformers 4.57) it compares the rotation that transformers applies, before and after.
// TestFamilies of package tests runs the GGUF on the engine.
//
//	go test ./tests/checkpoints -v
//	PYTHON=$PWD/build/venv/bin/python go test ./tests/checkpoints -v -run Transformers
package checkpoints
