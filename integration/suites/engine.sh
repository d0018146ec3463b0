# What the suites of podman and of docker share, whose command lines are the same here.
# `engine` is the program, `image` what its containers run, `apart` options of every counter's.

# start_counter NAME [OPTION...]: returns once it counts.
start_counter() {
    local name=$1 id
    shift
    id=$($engine run -d --name "$name" $apart "$@" $image sh -c "$counter")
    until_true test -e "/proc/$(first_process "$id")/root/count"
}

# count_of NAME
count_of() {
    $engine exec "$1" cat /count
}
