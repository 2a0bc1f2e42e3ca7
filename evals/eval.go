package evals

import (
	"context"

	"github.com/longrope/longrope/ropescale"
)

// Engine is what an evaluation needs of a model runtime. One Engine is one loaded model; it is not safe for
// concurrent use.
type Engine interface {
	// Info says what is being measured.
	Info() Info
	// Tokenize turns text into token ids; special adds what the model wants at the start (BOS) and parses special tokens.
	Tokenize(text string, special bool) ([]int, error)
	// Detokenize turns token ids back into text.
	Detokenize(tokens []int) (string, error)
	// SetLadder sets the factors of every later call; nil restores what the model file carries.
	// It does not load the model again.
	SetLadder(l *ropescale.Ladder) error
	// NLL returns -ln p(tokens[i] | tokens[:i]) in nats for i in [from, len(tokens)), from >= 1.
	// The rung is the one for len(tokens).
	NLL(ctx context.Context, tokens []int, from int) ([]float64, error)
	// Generate continues tokens greedily by up to n tokens, stopping at an end-of-generation token (not returned).
	// The rung is the one for len(tokens)+n.
	Generate(ctx context.Context, tokens []int, n int) ([]int, error)
}

// Info is the part of a result's provenance that the engine knows.
type Info struct {
	Model                 string  `json:"model"`  // path or name as the user gave it
	Digest                string  `json:"digest"` // sha256:… of the model file
	Architecture          string  `json:"architecture"`
	Engine                string  `json:"engine"`  // "llama.cpp"
	Host                  string  `json:"host"`    // host version and patch series, e.g. "ollama v0.17.4+longrope.1a2b3c4d"
	Backend               string  `json:"backend"` // "CPU", "CUDA0", …
	OriginalContextLength int     `json:"original_context_length"`
	RopeDimensionCount    int     `json:"rope_dimension_count"`
	FreqBase              float64 `json:"freq_base"`
	VocabSize             int     `json:"vocab_size"`
	MaxLength             int     `json:"max_length"` // longest sequence this engine was opened for, tokens
}
