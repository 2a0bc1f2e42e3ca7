// Package ropescale holds the mathematics of extending a model's context through its rotary
// position embedding: the published methods as pure functions, and the ladder of factors that
// the engine runs. Package study searches factors. Both import the standard library only and know
// nothing of model files or runtimes.
//
// # Symbols
//
//	d       rotary dimensions of a head; pairs i = 0 … d/2-1     Rope.Dims
//	b       frequency base                                       Rope.FreqBase
//	L       original context length, tokens                      Rope.OriginalContextLength
//	s       scale, target length / L                             Rope.Scale
//	omega_i inverse frequency of pair i, radians per token       Rope.InverseFrequencies
//	lambda_i rescale factor: divides the angle of pair i         Rung.Factors
//	n-hat   start window: positions below it keep row 0          Rung.StartWindow
//	a       attention factor: multiplies cos and sin             Rung.AttentionFactor
//
// # Equations
//
// Comments refer to these numbers.
//
//	(1)  omega_i = b^(-2i/d)
//	(2)  the pair (x, y) at position p becomes a*(x cos t - y sin t, x sin t + y cos t),
//	     t = p*omega_i/lambda_i
//	(3)  positions p < n-hat use row 0 in (2), the model's own RoPE, with row 0's attention factor
//	(4)  linear (PI):  lambda_i = s
//	(5)  ntk:          lambda_i = s^(2i/(d-2)), that is b' = b*s^(d/(d-2))
//	(6)  dynamic:      (5) with n/L in place of s, n the length at hand
//	(7)  yarn:         1/lambda_i = gamma_i + (1-gamma_i)/s,
//	                   gamma_i = 1 - clamp((i-low)/(high-low), 0, 1)
//	(8)                low, high = floor, ceil of d*ln(L/(2 pi n))/(2 ln b) at n = 32, 1 turns
//	(9)  longrope:     a = sqrt(1 + ln s/ln L)
//	(10) yarn:         a = 0.1 ln s + 1
//	(11) ggml's op:    lambda_i = f_i/(c*(1-m_i) + m_i); f freq factors, c freq_scale,
//	                   m_i ext_factor times (7)'s gamma
//	(12)               a = attn_factor*(1 + 0.1 ln(1/c)) when ext_factor != 0, else attn_factor
//	(13) llama3:       (7) with gamma_i = clamp((L0/wavelength_i - low)/(high - low), 0, 1)
//	(14) mrrope, tailspline: lambda_i = s^m(t), t = clamp(i-lo, 0, n), n = hi-lo;
//	                   lo the last pair of more than 32 turns in L (-1: none), hi the first of
//	                   less than one
//
// Sources: RoPE arXiv 2104.09864; PI 2306.15595; YaRN 2309.00071; LongRoPE 2402.13753, whose
// problem is "find the lambda_i and n-hat with the least perplexity at the target length".
// Equations (2) and (3) are that paper's section 3 with the attention factor of the authors' code.
//
// # Rows
//
// A Rung is one set of factors and the lengths it serves; a Ladder is a model's rungs and row 0,
// its RoPE as it was trained. The engine gets Ladder.Rows, a matrix, and picks Row(RungFor(length),
// position) for each token. The rung belongs to the sequence; the row to the token.
//
// # Deviations
//
//   - yarn's ramp is linear in the pair's index with rounded ends, as in its reference code,
//     transformers and ggml; the paper writes a ramp linear in the number of turns.
//   - Up to L every method but longrope is the identity. transformers shrinks positions for a
//     factor below 1.
package ropescale
