/* Folder trees: removing one, and making one durable. Both work from an open
 * folder, never from a path that another process could meanwhile have given to
 * something else, and follow no symbolic link. They return 0 or -errno. */
#ifndef QUERN_ARTIFACT_TREE_H
#define QUERN_ARTIFACT_TREE_H

/* Removes everything in the folder, not the folder. */
int tree_empty(int folder);

/* Syncs every file in the tree but those with a second name (a hard link into
 * the store was synced there), then the folders, innermost first. */
int tree_sync(int folder);

#endif
