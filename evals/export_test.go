package evals

import "context"

// The tests use these parts of the inside. They are a package of their own, since tasktest imports
// this one.
var (
	BucketEdges  = bucketEdges
	LadderDigest = ladderDigest
	Windows      = splitWindows
	Wilson       = wilson
)

type Window = window

const (
	SchemaVersion    = schemaVersion
	DocumentsTexts   = documentsTexts
	DocumentsWindows = documentsWindows
)

func AskPasskey(ctx context.Context, e Engine, p *Prompt, o PasskeyOptions) (PasskeyTrial, error) {
	return new(PasskeyResult).ask(ctx, e, p, o)
}

// Passkey runs the task alone, with the ladder of m.
func Passkey(ctx context.Context, e Engine, m Method, o PasskeyOptions) (*PasskeyResult, error) {
	if len(o.Lengths) == 0 {
		o.Lengths = []int{e.Info().MaxLength}
	}
	r, err := RunOne[*PasskeyResult](ctx, &o, Setup{Engine: e, Lengths: o.Lengths}, m)
	if err != nil {
		return nil, err
	}
	return r[0], nil
}
