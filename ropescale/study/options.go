package study

import "github.com/longrope/longrope/ropescale"

// Reading is one thing that candidates are scored on: a sequence of tokens of which some count,
// such as a window of text or a prompt with a hidden key. Its content is not the study's business.
type Reading struct {
	Name string `json:"name"` // for the record
	// Kind of reading, such as "text" or "key": cma scores a generation on one of each.
	Kind string `json:"kind,omitempty"`
	// Tokens is how many the model evaluates for it, behind the prefix of a cheap one; 0 for a
	// reading that is made of the sequence of the one before it, such as the key that is hidden in
	// a window of text. The two are always asked for together.
	Tokens int `json:"tokens"`
	// Weight of its loss in the fitness, above 0.
	Weight float64 `json:"weight"`
	// Use is "" for what the fitness is made of. The others are for cma alone.
	Use Use `json:"use,omitempty"`
}

// Use of a reading that is not part of the fitness.
type Use string

const (
	// ForGenerations is what the candidates of a generation are scored on, and nothing else: what
	// decides was not searched with. Without such readings they get those of the fitness.
	ForGenerations Use = "generations"
	// ForFinalists is what finalists are scored on at the end (Study.Best).
	ForFinalists Use = "finalists"
	// ForBases makes the readings for generations cheap ones (Candidate.Base): these are the same
	// readings, in the same order, evaluated in full.
	ForBases Use = "bases"
)

// Passes groups the places of readings by the sequence that they are made of.
func Passes(readings []Reading) [][]int {
	var passes [][]int
	for i, r := range readings {
		if r.Tokens > 0 {
			passes = append(passes, nil)
		}
		passes[len(passes)-1] = append(passes[len(passes)-1], i)
	}
	return passes
}

// places are those of the readings for a use.
func places(readings []Reading, use Use) (places []int) {
	for i, r := range readings {
		if r.Use == use {
			places = append(places, i)
		}
	}
	return places
}

// deciding are the places of what the best is chosen by.
func deciding(readings []Reading) []int {
	return append(places(readings, ""), places(readings, ForFinalists)...)
}

// Options say what a study searches for. All but Readings, Budget, Starts, Params and the
// provenance are needed. With every default filled in they are the header of the study's journal,
// and a study is resumed with the options that it was started with only.
type Options struct {
	// Rope is the model's RoPE.
	Rope ropescale.Rope `json:"rope"`
	// Base is the model's own scaling, row 0; nil for plain RoPE. Candidates are composed with it
	// (Rung.Over). A model that was fine-tuned with a rung is stretched further from that: then
	// Base is the rung, and its length is the Rope's original context length.
	Base *ropescale.Rung `json:"base,omitempty"`
	// Target is the length in tokens to find factors for, above Rope.OriginalContextLength.
	Target int `json:"target"`
	// Stretch is how far factors reach, in place of Target/L, above 1; 0 is Target/L. A rung that
	// is readjusted for shorter texts after the model was fine-tuned for longer ones may have
	// factors up to the longer rung's. Only then Target may be up to L, and the only seed is the
	// own RoPE.
	Stretch float64 `json:"stretch,omitempty"`
	// Algorithm is "cma" (also when empty), "longrope" (the paper's), "dim-mono" or
	// "dim-piece-mono" (the authors' released ones).
	Algorithm string `json:"algorithm"`
	// Seed determines every candidate, together with the losses told.
	Seed uint64 `json:"seed"`
	// ModelDigest, Fitness (its name, e.g. "perplexity of 3 windows") and Texts are the provenance.
	ModelDigest string   `json:"model_digest"`
	Fitness     string   `json:"fitness"`
	Texts       []string `json:"texts"`
	// Readings are what candidates are scored on; nil is a single one, of one token and weight 1.
	Readings []Reading `json:"readings"`
	// Budget is how many tokens are evaluated at most. 0 means the algorithm's own: enough for
	// eighteen generations of cma, its finals and Params.Retries, the paper's 3+64+40*32 times all
	// readings for the others.
	Budget int `json:"budget"`
	// Starts are further candidates to start from, relative to the model's own RoPE, in addition to
	// the seeds: the factors of a shorter rung, or those published for a relative. The released
	// algorithms take none.
	Starts []Candidate `json:"starts,omitempty"`
	Params Params      `json:"params"`

	settings settings // zero but in tests
}

// Params are the settings of the search algorithms that a user has reasons to change. A field of
// another algorithm is ignored.
type Params struct {
	// StartWindows are the values that n-hat may take; nil means 0, 1, 2, 4, 8, 12, 16, 20, 24, 28,
	// 32, 64, 128, 256. Values at or above the target are dropped.
	StartWindows []int `json:"start_windows"`
	// Attention is "fixed" (every candidate has LongRoPEAttentionFactor) or "search"; "" means
	// fixed for longrope, search for cma.
	Attention string `json:"attention"`
	// Population is the size of the first generation of longrope and the released algorithms (0:
	// the paper's 64, or what the budget allows) and of every generation of cma (0: 8).
	Population int `json:"population"`
	// Knots is the number of increments of log lambda in cma; 0 means 8 (never more than d/2).
	Knots int `json:"knots"`
	// Retries is how often cma restarts, at the start that won, where no mean is as good as a start
	// at the final readings.
	Retries int `json:"retries,omitempty"`
}

// Candidate is what an algorithm proposes.
type Candidate struct {
	// Rung is relative to the model's own RoPE.
	Rung ropescale.Rung `json:"rung"`
	// Base is what the prefix of cheap readings is evaluated under, relative to the model's own
	// RoPE; nil for readings that are evaluated in full, under Rung.
	Base *ropescale.Rung `json:"base,omitempty"`
	// Origin says how it was made: a method's name, "mutation", "crossover", "cma", …
	Origin string `json:"origin"`
	// Parents are the candidates that it was made from.
	Parents []int `json:"parents,omitempty"`
	// Readings are the places in Options.Readings that it is to be scored on; nil is all that the
	// fitness is made of. Those that it was scored on before are left out of the trial.
	Readings []int `json:"readings,omitempty"`
}
