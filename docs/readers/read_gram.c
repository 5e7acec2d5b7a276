/* Read one kernel of a Gram file: cc read_gram.c -o read_gram $(pkg-config --cflags --libs hdf5)
   ./read_gram K.h5 ntk     prints its name, its shape and the sum of its entries. */
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *path, const char *what) {
    fprintf(stderr, "%s: %s\n", path, what);
    exit(1);
}

/* A root attribute that is a string of variable length; the caller frees it. */
static char *text(hid_t file, const char *name) {
    char *value = NULL;
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    if (attribute < 0) return NULL;
    hid_t type = H5Aget_type(attribute);
    if (H5Aread(attribute, type, &value) < 0) value = NULL;
    H5Tclose(type);
    H5Aclose(attribute);
    return value;
}

/* A root attribute that is a number; -1 where there is none. `complete` is an enumeration of one
   byte: read it in its own type. */
static long long number(hid_t file, const char *name) {
    long long value = -1;
    signed char byte = -1;
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    if (attribute < 0) return -1;
    hid_t type = H5Aget_type(attribute);
    if (H5Tget_class(type) == H5T_ENUM) {
        if (H5Tget_size(type) == 1 && H5Aread(attribute, type, &byte) >= 0) value = byte;
    } else if (H5Aread(attribute, H5T_NATIVE_LLONG, &value) < 0) {
        value = -1;
    }
    H5Tclose(type);
    H5Aclose(attribute);
    return value;
}

int main(int count, char **words) {
    if (count < 2) fail(words[0], "give a file, and a kernel such as ntk");
    const char *path = words[1], *name = count > 2 ? words[2] : "ntk";
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) fail(path, "cannot be opened");
    char *format = text(file, "format");
    if (format == NULL || strcmp(format, "widegram-gram") != 0) fail(path, "no Gram file");
    free(format);
    if (number(file, "format_version") != 2) fail(path, "not of format version 2");
    if (number(file, "complete") != 1) fail(path, "tiles are missing; run its command again");
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    if (dataset < 0) fail(path, "has no such kernel");
    hsize_t shape[2];
    hid_t space = H5Dget_space(dataset);
    if (H5Sget_simple_extent_dims(space, shape, NULL) != 2) fail(path, "not a matrix");
    double *row = malloc(shape[1] * sizeof *row), sum = 0.0;
    hsize_t block[2] = {1, shape[1]}, start[2] = {0, 0};
    hid_t memory = H5Screate_simple(2, block, NULL);
    for (; start[0] < shape[0]; start[0]++) { /* entry [a, b] is of row a of x1, row b of x2 */
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, block, NULL);
        if (H5Dread(dataset, H5T_NATIVE_DOUBLE, memory, space, H5P_DEFAULT, row) < 0)
            fail(path, "cannot be read");
        for (hsize_t j = 0; j < shape[1]; j++) sum += row[j];
    }
    printf("%s %llu %llu %.10g\n", name, (unsigned long long)shape[0],
           (unsigned long long)shape[1], sum);
    free(row);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(dataset);
    H5Fclose(file);
    return 0;
}
