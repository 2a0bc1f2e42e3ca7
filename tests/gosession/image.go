//go:build !stock

package gosession

import (
	"fmt"

	"github.com/ollama/ollama/ml"
	"github.com/ollama/ollama/model"
	"github.com/ollama/ollama/model/input"
)

// Image is what a model's vision tower made of a picture.
type Image struct {
	// Values are the tower's outputs, one a tensor.
	Values [][]float32
	shapes [][]int
	data   []any
}

// Tokens is how many an image takes, its marks aside.
func (i *Image) Tokens() int { return i.shapes[0][1] }

// Encode has the vision tower look at a picture, in a format that package image knows.
func (s *Session) Encode(picture []byte) (*Image, error) {
	ctx := s.model.Backend().NewContext()
	defer ctx.Close()
	parts, err := s.model.(model.MultimodalProcessor).EncodeMultimodal(ctx, picture)
	if err != nil {
		return nil, fmt.Errorf("gosession: %w", err)
	}
	var tensors []ml.Tensor
	for _, p := range parts {
		ctx.Forward(p.Tensor)
		tensors = append(tensors, p.Tensor)
	}
	ctx.Compute(tensors...)
	var out Image
	for _, p := range parts {
		out.Values = append(out.Values, p.Tensor.Floats())
		out.shapes = append(out.shapes, p.Tensor.Shape())
		out.data = append(out.data, p.Data)
	}
	return &out, nil
}

// DecodeImage computes a sequence from its start: tokens, an image and more tokens. Marks of the
// image are token 0.
func (s *Session) DecodeImage(before []int, image *Image, after []int) error {
	ctx := s.model.Backend().NewContext()
	defer ctx.Close()
	var inputs []*input.Input
	for _, id := range before {
		inputs = append(inputs, &input.Input{Token: int32(id)})
	}
	var parts []input.Multimodal
	for i, v := range image.Values {
		parts = append(
			parts,
			input.Multimodal{
				Tensor: ctx.Input().FromFloats(v, image.shapes[i]...),
				Data:   image.data[i],
			},
		)
	}
	inputs = append(inputs, &input.Input{Multimodal: parts})
	for _, id := range after {
		inputs = append(inputs, &input.Input{Token: int32(id)})
	}
	inputs, err := s.model.(model.MultimodalProcessor).PostTokenize(inputs)
	if err != nil {
		return fmt.Errorf("gosession: %w", err)
	}

	var ids []int32
	var b input.Batch
	for i, in := range inputs {
		if in.Token >= int32(s.Vocab()) {
			in.Token = 0
		}
		ids = append(ids, in.Token)
		b.Positions = append(b.Positions, int32(i))
		b.Sequences = append(b.Sequences, 0)
		if in.Multimodal != nil {
			b.Multimodal = append(b.Multimodal,
				input.MultimodalIndex{Index: i, Multimodal: in.Multimodal})
		}
	}
	return s.compute(ctx, b, ids, []int32{int32(len(ids) - 1)})
}
