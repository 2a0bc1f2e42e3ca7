package ropescale

import "math"

// MrRoPE and TailSpline leave pairs alone that turn more than 32 times within L, interpolate those
// that turn less than once in full, and differ in the transition between: lambda_i = s^m(t), t the
// pair's place in it.

// band returns the last pair that turns more than 32 times within L, -1 if none does, and the first
// that turns less than once. Where all turn, that is the slowest pair, so that it is interpolated
// in full as by every closed form.
func (r Rope) band() (fast, slow int) {
	fast, slow = -1, r.Pairs()-1
	for i, w := range r.Wavelengths() {
		turns := float64(r.OriginalContextLength) / w
		switch {
		case turns > 32 && i < r.Pairs()-1:
			fast = i
		case turns < 1:
			return fast, i
		}
	}
	return fast, slow
}

// transition is the rung with lambda_i = s^m(t, n), t = i - fast from 0 to n = slow - fast, and
// YaRN's attention factor, 1 + 0.1 ln s. (eq. 14)
func transition(r Rope, target int, o MethodOptions, m func(t, n float64) float64) (Rung, error) {
	g, s, err := begin(r, target, o)
	if err != nil || s <= 1 {
		return g, err
	}
	fast, slow := r.band()
	n := float64(slow - fast)
	for i := range g.Factors {
		t := min(max(float64(i-fast), 0), n)
		g.Factors[i] = math.Pow(s, m(t, n))
	}
	if o.AttentionFactor == 0 {
		g.AttentionFactor = YaRNAttentionFactor(s)
	}
	return g, nil
}

// mrRoPEUni is MrRoPE-Uni (arXiv 2601.22181): m = t/n, the same ratio from each pair to the next.
func mrRoPEUni(r Rope, target int, o MethodOptions) (Rung, error) {
	return transition(r, target, o, func(t, n float64) float64 { return t / n })
}

// mrRoPEPro is MrRoPE-Pro (arXiv 2601.22181): m = t(t+1)/(n(n+1)), ratios that grow evenly.
func mrRoPEPro(r Rope, target int, o MethodOptions) (Rung, error) {
	return transition(r, target, o, func(t, n float64) float64 {
		return t * (t +
			1) / (n * (n + 1))
	})
}

// tailSpline is TailSpline (github.com/misaya-yang/hybrid-rope, a submission of 2026):
// m = t(3n^2+3n+1-t^2)/(n(n+1)(2n+1)), ratios that fall to the slow end as smoothly as they can.
func tailSpline(r Rope, target int, o MethodOptions) (Rung, error) {
	return transition(r, target, o, func(t, n float64) float64 {
		return t * (3*n*n + 3*n + 1 - t*t) / (n * (n + 1) * (2*n + 1))
	})
}

// Resonance returns rung g, which is absolute, with wavelengths of whole tokens: 2 pi
// lambda_i/omega_i rounded, at least 1 (Resonance RoPE, arXiv 2403.00071). Then no pair meets,
// beyond L, a phase that it did not meet before. It works on any set. Wavelengths keep their order;
// factors of fast pairs may fall from one to the next.
func (g Rung) Resonance(r Rope) Rung {
	f := make([]float64, len(g.Factors))
	for i, w := range r.Wavelengths() {
		f[i] = max(1, math.Round(w*g.Factors[i])) / w
	}
	g.Factors = f
	return g
}
