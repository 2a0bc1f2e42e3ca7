package evals

import "context"

// The tests use these parts of the inside. They are a package of their own, since tasktest imports
// this one.
var (
	BucketEdges  = bucketEdges
	LadderDigest = ladderDigest
)

func AskPasskey(ctx context.Context, e Engine, p *Prompt, o PasskeyOptions) (PasskeyTrial, error) {
	return new(PasskeyResult).ask(ctx, e, p, o)
}
