package evals

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/longrope/longrope/ropescale"
)

// schemaVersion is the version of the JSON form of every result in this package. In version 1 a
// comparison's rows had the figures of perplexity and passkeys, measured or not, its arguments were
// those of the two, and benchmarks had a form of their own. Comparison still reads it.
const schemaVersion = 2

// ErrNotFinite is returned when a model's NLL is NaN or infinite, as it is with factors that
// overflow. A search takes it as a candidate without worth; an evaluation stops.
var ErrNotFinite = errors.New("nll is not finite")

// Engine is what an evaluation needs of a model runtime. One Engine is one loaded model; it is not
// safe for concurrent use.
type Engine interface {
	// Info says what is being measured.
	Info() Info
	// Tokenize turns text into token ids; special adds what the model wants at the start (BOS) and
	// parses special tokens.
	Tokenize(text string, special bool) ([]int, error)
	// Detokenize turns token ids back into text.
	Detokenize(tokens []int) (string, error)
	// SetLadder sets the factors of every later call; nil restores what the model file carries.
	// It does not load the model again.
	SetLadder(l *ropescale.Ladder) error
	// NLL returns -ln p(tokens[i] | tokens[:i]) in nats for i in [from, len(tokens)), from >= 1.
	// The rung is the one for len(tokens).
	NLL(ctx context.Context, tokens []int, from int) ([]float64, error)
	// Generate continues tokens greedily by up to n tokens, stopping at an end-of-generation token
	// (not returned). The rung is the one for len(tokens)+n.
	Generate(ctx context.Context, tokens []int, n int) ([]int, error)
}

// Names of the host's engines, for Info.Engine and --engine.
const (
	LlamaEngine = "llama.cpp"
	GoEngine    = "go"
)

// Info is the part of a result's provenance that the engine knows.
type Info struct {
	Model        string `json:"model"`  // path or name as the user gave it
	Digest       string `json:"digest"` // sha256:… of the model file
	Architecture string `json:"architecture"`
	Engine       string `json:"engine"` // LlamaEngine or GoEngine
	// host version and patch series, e.g. "ollama v0.17.4+longrope.1a2b3c4d"
	Host                  string  `json:"host"`
	Backend               string  `json:"backend"` // "CPU", "CUDA0", …
	OriginalContextLength int     `json:"original_context_length"`
	RopeDimensionCount    int     `json:"rope_dimension_count"`
	FreqBase              float64 `json:"freq_base"`
	VocabSize             int     `json:"vocab_size"`
	// longest sequence this engine was opened for, tokens
	MaxLength int `json:"max_length"`
}

// Method is a ladder and the name it goes by in tables: "stock", "linear", "ntk", "yarn",
// "longrope". Ladder nil is what the model file carries.
type Method struct {
	Name   string
	Ladder *ropescale.Ladder
}

// Text is a document: its name, for tables and errors, and its contents, which a result records as
// size and digest.
type Text struct {
	Name string
	Body string
}

// MarshalJSON identifies the text without repeating it.
func (t Text) MarshalJSON() ([]byte, error) {
	return json.Marshal(t.id())
}

// TextID identifies a text without repeating it.
type TextID struct {
	Name   string `json:"name"`
	Bytes  int    `json:"bytes"`
	Digest string `json:"digest"` // sha256:…
}

func (t Text) id() TextID { return TextID{t.Name, len(t.Body), Digest(t.Body)} }

// Progress hears of work done, from 0 to total, in units of model calls; label says what is being
// done now.
type Progress func(done, total int, label string)

// Report calls p, where there is one.
func (p Progress) Report(done, total int, label string) {
	if p != nil {
		p(done, total, label)
	}
}

// From is the progress of a part that begins when base of total is done.
func (p Progress) From(base, total int) Progress {
	if p == nil {
		return nil
	}
	return func(done, _ int, label string) { p(base+done, total, label) }
}

// Provenance says how a result came about, well enough to get it again.
type Provenance struct {
	SchemaVersion int    `json:"schema_version"`
	Task          string `json:"task"`         // name of a Task, or "compare"
	TaskVersion   int    `json:"task_version"` // figures of different versions do not compare
	Method        string `json:"method,omitempty"`
	LadderDigest  string `json:"ladder_digest"` // "" for what the model file carries
	Engine        Info   `json:"engine"`
	Seed          uint64 `json:"seed"`
	ArgsGiven     any    `json:"args_given"` // zero values as the caller left them
	Args          any    `json:"args"`       // in effect, defaults filled in
	// EvaluatedTokens counts what the model was made to read or write, scored or not.
	EvaluatedTokens int `json:"evaluated_tokens"`
	// Started and Duration (seconds) are the only fields that differ between two runs with one
	// seed.
	Started  time.Time `json:"started"`
	Duration float64   `json:"duration_s"`
}

// About is the provenance of what embeds it.
func (p *Provenance) About() *Provenance { return p }

// Finish stops the clock.
func (p *Provenance) Finish() { p.Duration = time.Since(p.Started).Seconds() }

// NewProvenance starts the clock.
func NewProvenance(task string, version int, e Engine, m Method, seed uint64, given,
	effective any,
) Provenance {
	return Provenance{
		SchemaVersion: schemaVersion, Task: task, TaskVersion: version,
		Method: m.Name, LadderDigest: ladderDigest(m.Ladder), Engine: e.Info(), Seed: seed,
		ArgsGiven: given, Args: effective, Started: time.Now().UTC(),
	}
}

// ladderDigest is the ladder's Digest, "" for nil.
func ladderDigest(l *ropescale.Ladder) string {
	if l == nil {
		return ""
	}
	return l.Digest()
}

// Digest identifies a text.
func Digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// CheckLength refuses lengths that the engine was not opened for.
func CheckLength(e Engine, length int) error {
	if most := e.Info().MaxLength; most > 0 && length > most {
		return fmt.Errorf("length %d is beyond the %d tokens that the engine was opened for: "+
			"open it for at least %d", length, most, length)
	}
	return nil
}

// CheckedNLL calls the engine and refuses an answer of the wrong size or with values that are no
// NLL.
func CheckedNLL(ctx context.Context, e Engine, tokens []int, from int) ([]float64, error) {
	if from < 1 || from >= len(tokens) {
		return nil, fmt.Errorf("cannot score %d tokens from %d: from must be at least 1 and "+
			"below the number of tokens", len(tokens), from)
	}
	values, err := e.NLL(ctx, tokens, from)
	if err != nil {
		return nil, err
	}
	if len(values) != len(tokens)-from {
		return nil, fmt.Errorf("engine gave %d values for %d scored tokens", len(values),
			len(tokens)-from)
	}
	for i, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("%w: %v at position %d of %d: check the factors for values "+
				"that overflow", ErrNotFinite, v, from+i, len(tokens))
		}
	}
	return values, nil
}
