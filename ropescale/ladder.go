package ropescale

// Rung is one set of RoPE factors and the lengths it serves.
type Rung struct {
	// Length is the longest sequence, in tokens, that this rung serves.
	Length int `json:"length"`
	// StartWindow is n-hat: positions below it keep row 0 (the model's own RoPE).
	StartWindow int `json:"start_window"`
	// AttentionFactor multiplies cos and sin of query and key, so attention logits by its square.
	AttentionFactor float64 `json:"attention_factor"`
	// Factors are lambda_0 … lambda_{d/2-1}, absolute: theta_i is divided by Factors[i].
	Factors []float64 `json:"factors"`
}

// Ladder is a model's rungs, ascending by Length. Base is row 0: the model's own RoPE as it was trained.
type Ladder struct {
	Version               int    `json:"version"`
	OriginalContextLength int    `json:"original_context_length"`
	RopeDimensionCount    int    `json:"rope_dimension_count"`
	Base                  *Rung  `json:"base,omitempty"` // nil: identity (all ones, attention factor 1)
	Rungs                 []Rung `json:"rungs"`
}
