int shift(int p) {
    return p - 1;
}
