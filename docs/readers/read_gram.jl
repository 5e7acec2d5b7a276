# Read one kernel of a Gram file: julia read_gram.jl K.h5 ntk      (package HDF5.jl)
using HDF5

function read_gram(path, name = "ntk")
    h5open(path, "r") do file
        kind = attrs(file)
        kind["format"] == "widegram-gram" && kind["format_version"] == 2 ||
            error("$path: no Gram file of format version 2")
        kind["complete"] == 1 || error("$path: tiles are missing; run its `widegram gram` command again")
        all(read(file["state/tiles"]) .== 1) || error("$path: a tile is not marked as finished")
        permutedims(read(file[name]))    # Julia stores columns first: entry [a, b] is x1[a], x2[b]
    end
end

if abspath(PROGRAM_FILE) == @__FILE__
    name = length(ARGS) > 1 ? ARGS[2] : "ntk"
    kernel = read_gram(ARGS[1], name)
    println(name, " ", size(kernel, 1), " ", size(kernel, 2), " ", sum(Float64.(kernel)))
end
