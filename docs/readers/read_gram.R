# Read one kernel of a Gram file: Rscript read_gram.R K.h5 ntk      (package rhdf5)

read_gram <- function(path, name = "ntk") {
  # rhdf5 reads no enumerations, as `complete` is one: the flags of the tiles say the same.
  kind <- suppressWarnings(rhdf5::h5readAttributes(path, "/"))
  if (!identical(as.character(kind$format), "widegram-gram") || kind$format_version != 2) {
    stop(path, ": no Gram file of format version 2")
  }
  if (any(rhdf5::h5read(path, "/state/tiles") != 1)) {
    stop(path, ": tiles are missing; run its `widegram gram` command again")
  }
  t(rhdf5::h5read(path, paste0("/", name))) # R stores columns first: [a, b] is x1[a], x2[b]
}

if (sys.nframe() == 0L) {
  arguments <- commandArgs(trailingOnly = TRUE)
  name <- if (length(arguments) > 1) arguments[2] else "ntk"
  kernel <- read_gram(arguments[1], name)
  cat(name, dim(kernel), format(sum(kernel), digits = 10), "\n")
}
