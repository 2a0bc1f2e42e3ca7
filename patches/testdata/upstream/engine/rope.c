// line 1
// line 2
// line 3
// line 4
float rope_angle(float theta, int p) {
    return theta * p;
}

// the middle
// of a file
// that is long enough
// for two hunks

float rope_scale(float s) {
    return 1.0f / s;
}
