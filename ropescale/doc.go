// Package ropescale holds the mathematics of extending a model's context through its rotary
// position embedding: the published methods as pure functions, the ladder of factors that the
// engine runs, and the search that finds factors for a model. It imports the standard library only
// and knows nothing of model files or runtimes.
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
// CMA-ES is Hansen's tutorial, arXiv 1604.00772; package cma numbers its equations.
//
// # Rows
//
// A Rung is one set of factors and the lengths it serves; a Ladder is a model's rungs and row 0,
// its RoPE as it was trained. The engine gets Ladder.Rows, a matrix, and picks Row(RungFor(length),
// position) for each token. The rung belongs to the sequence; the row to the token.
//
// # The search
//
// A Study proposes candidates (Ask) and takes their losses (Tell). Candidates are scored on a list
// of readings: windows of text, keys that are hidden in them. Readings of one sequence of tokens
// are asked for together. A trial names the readings that a candidate is to be scored on, and a
// candidate may be asked for again with others, never twice on the same. Its fitness is exp of the
// weighted sum over those that have no other use (Reading.Use): generations have their own, so that
// the decision does not rest on those that were searched with, and so have the finalists.
//
// Four algorithms. "cma", the default, is made for dear evaluations: CMA-ES on a few knots of log
// lambda, the attention factor and n-hat, whose generations are scored on one window each, with a
// quadratic model that chooses between draws (sampled.go). "longrope" is the paper's evolutionary
// search with all of its space, "dim-mono" and "dim-piece-mono" are those that its authors
// released; these three score every candidate on everything.
//
// A study on disk is a journal of the batches that were proposed and the losses that were told. Its
// state is what replaying them gives, so a killed study resumes as if it had never stopped, also
// under a version of the program that would have proposed other candidates.
//
// # Deviations
//
//   - yarn's ramp is linear in the pair's index with rounded ends, as in its reference code,
//     transformers and ggml; the paper writes a ramp linear in the number of turns.
//   - Up to L every method but longrope is the identity. transformers shrinks positions for a
//     factor below 1.
//   - longrope (the search) evaluates PI, NTK and YaRN once as published, with their own attention
//     factors, so that they can be compared; the initial population has their factors, on the grid,
//     with the search's attention factor. The paper does not say how n-hat mutates: here it is one
//     more gene.
//   - Bit-equality of a study is promised on one platform: Go may fuse multiply and add on others.
package ropescale
