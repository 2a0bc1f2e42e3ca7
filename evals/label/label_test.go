package label

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSize(t *testing.T) {
	for n, want := range map[int]string{
		0: "0", 256: "256", 1000: "1000", 1024: "1k", 1536: "1536", 2048: "2k", 131072: "128k",
		1500 << 10: "1500k", 1 << 20: "1m", 2 << 20: "2m",
	} {
		assert.Equal(t, want, Size(n))
		if n > 0 {
			back, err := ParseSize(want)
			assert.NoError(t, err)
			assert.Equal(t, n, back)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{
		0: "0", 123: "123", 1234567: "1,234,567", -1234: "-1,234", -123: "-123",
	} {
		assert.Equal(t, want, Count(n))
	}
}

func TestNumbers(t *testing.T) {
	for x, want := range map[float64][2]string{
		0:           {"0", "0.000"},
		1:           {"1", "1.000"},
		0.00012345:  {"0.000123", "0.000"},
		0.12345:     {"0.1235", "0.123"},
		16.2:        {"16.2", "16.20"},
		-70.00001:   {"-70", "-70.00"},
		123.456:     {"123.5", "123.5"},
		9999.6:      {"10000", "10,000"},
		12345.6:     {"12346", "12,346"},
		500000:      {"5e+05", "500,000"},
		math.Inf(1): {"+Inf", "–"},
	} {
		assert.Equal(t, want, [2]string{Number(x), Column(x)})
	}
	assert.Equal(t, "0.1", Exact(0.1))
}
