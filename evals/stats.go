package evals

import "math"

// z95 is the 97.5 % quantile of the standard normal distribution.
const z95 = 1.959963984540054

// Proportion is a share of trials and its Wilson 95 % interval.
type Proportion struct {
	Correct int     `json:"correct"`
	Trials  int     `json:"trials"`
	Rate    float64 `json:"rate"`
	Low     float64 `json:"low"`  // of the interval
	High    float64 `json:"high"` // of the interval
}

// NewProportion is the share of correct ones in trials.
func NewProportion(correct, trials int) Proportion {
	p := Proportion{Correct: correct, Trials: trials}
	p.Low, p.High = wilson(correct, trials)
	if trials > 0 {
		p.Rate = float64(correct) / float64(trials)
	}
	return p
}

// wilson returns the 95 % score interval of a proportion (E. B. Wilson, 1927, JASA 22:209):
//
//	(p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
//
// Unlike p ± z·s it stays inside [0, 1] and does not shrink to a point at 0 of n or n of n. No
// trials say nothing: 0, 1.
func wilson(correct, trials int) (low, high float64) {
	return WilsonRate(float64(correct)/float64(max(trials, 1)), trials)
}

// WilsonRate is Wilson of a mean p over trials of values from 0 to 1, which need not be 0 or 1. As
// their variance is at most p(1-p), it is wide enough.
func WilsonRate(p float64, trials int) (low, high float64) {
	if trials <= 0 {
		return 0, 1
	}
	n := float64(trials)
	centre := p + z95*z95/(2*n)
	spread := z95 * math.Sqrt(p*(1-p)/n+z95*z95/(4*n*n))
	scale := 1 + z95*z95/n
	low, high = (centre-spread)/scale, (centre+spread)/scale
	// The formula gives 0 and 1 exactly; rounding does not.
	if p <= 0 {
		low = 0
	}
	if p >= 1 {
		high = 1
	}
	return low, high
}

// MeanStderr returns the mean of values and its standard error (sample deviation over sqrt n); the
// error is 0 for fewer than two values.
func MeanStderr(values []float64) (mean, stderr float64) {
	weights := make([]float64, len(values))
	for i := range weights {
		weights[i] = 1
	}
	return WeightedMeanStderr(values, weights)
}

// WeightedMeanStderr returns sum(w x)/sum(w) and its standard error as a ratio estimate,
//
//	sqrt(n/(n-1) · sum(w_i² (x_i - mean)²)) / sum(w)
//
// which for equal weights is the usual s/sqrt(n). The error is 0 for fewer than two values of
// positive weight.
func WeightedMeanStderr(values, weights []float64) (mean, stderr float64) {
	var sum, total float64
	var n int
	for i, x := range values {
		if weights[i] > 0 {
			sum += weights[i] * x
			total += weights[i]
			n++
		}
	}
	if n == 0 {
		return 0, 0
	}
	mean = sum / total
	if n < 2 {
		return mean, 0
	}
	var squares float64
	for i, x := range values {
		if weights[i] > 0 {
			d := weights[i] * (x - mean)
			squares += d * d
		}
	}
	return mean, math.Sqrt(float64(n)/float64(n-1)*squares) / total
}
