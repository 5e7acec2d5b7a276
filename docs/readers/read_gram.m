function kernel = read_gram(path, name)
% Read one kernel of a Gram file: K = read_gram('K.h5', 'ntk')
% Rows belong to x1, columns to x2. h5read gives columns first, hence the transpose.
if nargin < 2
    name = 'ntk';
end
if ~strcmp(h5readatt(path, '/', 'format'), 'widegram-gram') || h5readatt(path, '/', 'format_version') ~= 2
    error('%s: no Gram file of format version 2', path);
end
complete = h5readatt(path, '/', 'complete');      % an enumeration: 'TRUE' or 1
if ~(strcmp(complete, 'TRUE') || isequal(double(complete), 1))
    error('%s: tiles are missing; run its `widegram gram` command again', path);
end
if any(any(h5read(path, '/state/tiles') ~= 1))
    error('%s: a tile is not marked as finished', path);
end
kernel = h5read(path, ['/' name])';
end
